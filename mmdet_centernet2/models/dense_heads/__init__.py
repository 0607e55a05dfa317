"""CenterNet heads."""

from .centernet2_head import CenterNet2Head
from .centernet2_proposal_head import CenterNet2ProposalHead

__all__ = ['CenterNet2Head', 'CenterNet2ProposalHead']
