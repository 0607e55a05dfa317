"""The table of names in the documentation is the one that is used."""

import re

from mmdet_centernet2.checkpoint.key_maps import key_map
from mmdet_centernet2.checkpoint.variants import Variant
from tests.paths import ROOT

VARIANTS = (
    Variant('resnet', 'fpn', 'cascade', mask=True),
    Variant('res2net', 'bifpn', 'cascade', mask=False),
    Variant('dla', 'dla-up', 'cascade', mask=False),
    Variant('resnet', 'fcos-bifpn', 'cascade', mask=False),
)


def test_table_of_names_holds_every_rule_and_no_other():
    text = (ROOT / 'docs' / 'convert.md').read_text(encoding='utf-8')
    documented = re.findall(r'^\| `(\S+)` \| `(\S+)` \|$', text, re.MULTILINE)
    used = {(rule.official, rule.ours)
            for variant in VARIANTS for part in key_map(variant).parts
            for rule in part.rules}
    assert set(documented) == used
