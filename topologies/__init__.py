"""Who talks to whom: graphs by name, their mixing matrices and spectra. Knows networkx and numpy only."""

from topologies.errors import TopologyError
from topologies.families import KINDS, build
from topologies.mixing import WEIGHTS, mixing_matrix
from topologies.spectrum import Spectrum, describe, spectrum
from topologies.topology import Topology

__all__ = [
    "KINDS",
    "WEIGHTS",
    "Spectrum",
    "Topology",
    "TopologyError",
    "build",
    "describe",
    "mixing_matrix",
    "spectrum",
]
