"""Exact influence of every time step of an attention layer on every other, by path."""

from sensitivity.attention import attend
from sensitivity.autodiff import PathJacobians, path_jacobians
from sensitivity.bounds import check_bounds
from sensitivity.layer import AttentionWeights, ScoreBias
from sensitivity.norms import PathNorms
from sensitivity.path_norms import path_norms
from sensitivity.profiles import Profile, profile

__all__ = [
    "AttentionWeights",
    "PathJacobians",
    "PathNorms",
    "Profile",
    "ScoreBias",
    "attend",
    "check_bounds",
    "path_jacobians",
    "path_norms",
    "profile",
]
