"""Paths of recorded values; `tests/reference/README.md` says what they are."""

from tests.tasks import ROOT

REFERENCE = ROOT / "tests" / "reference"
PEERS = REFERENCE / "peers"
