"""Necks that mmdet does not have."""

from .bifpn import BiFPN, FCOSBiFPN
from .dla_up import DLAUpNeck

__all__ = ['BiFPN', 'DLAUpNeck', 'FCOSBiFPN']
