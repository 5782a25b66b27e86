"""Who talks to whom: graphs by name, their mixing matrices and spectra. Knows networkx and numpy only."""

from topologies.errors import TopologyError
from topologies.families import FAMILIES, KINDS, SETTINGS, Family, build
from topologies.mixing import WEIGHTS, mixing_matrix
from topologies.request import Request
from topologies.spectrum import Spectrum, describe, spectrum
from topologies.topology import Topology

__all__ = [
    "FAMILIES",
    "KINDS",
    "SETTINGS",
    "WEIGHTS",
    "Family",
    "Request",
    "Spectrum",
    "Topology",
    "TopologyError",
    "build",
    "describe",
    "mixing_matrix",
    "spectrum",
]
