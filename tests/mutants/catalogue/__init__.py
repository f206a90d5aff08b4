"""All bugs that are put back, by what they are about."""

from tests.mutants.catalogue import (
    cancelling,
    gating,
    leases,
    ordering,
    receipts,
    resuming,
    sidecars,
    spooling,
    stores,
    tasks,
    waiting,
)
from tests.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *receipts.MUTANTS,
    *stores.MUTANTS,
    *waiting.MUTANTS,
    *tasks.MUTANTS,
    *leases.MUTANTS,
    *resuming.MUTANTS,
    *cancelling.MUTANTS,
    *gating.MUTANTS,
    *ordering.MUTANTS,
    *sidecars.MUTANTS,
    *spooling.MUTANTS,
)
