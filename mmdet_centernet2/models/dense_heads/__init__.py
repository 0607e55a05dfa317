"""CenterNet heads."""
from .centernet2_proposal_head import CenterNet2ProposalHead

__all__ = ['CenterNet2ProposalHead']
