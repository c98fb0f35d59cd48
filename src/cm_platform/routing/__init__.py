"""Which backend serves a tenant: routes, rules, and the table that the executor reads.

Flags ask, the data decides: a rule or a remote flag requests a route, a ledger (when there is
one) knows where the data is, and the table never guesses. The OpenFeature side is in
`cm_platform.routing.openfeature`, imported by who needs it.
"""

from .judging import Evaluate, Home, Reason, Whereabouts
from .names import did_you_mean, is_name
from .outdated import OutdatedRouteError
from .route import KINDS, Kind, Route, Stage, known_routes
from .rules import Decision, Match, Rule, Rules, bucket
from .table import RouteEvent, RouteTable

__all__ = [
    "KINDS",
    "Decision",
    "Evaluate",
    "Home",
    "Kind",
    "Match",
    "OutdatedRouteError",
    "Reason",
    "Route",
    "RouteEvent",
    "RouteTable",
    "Rule",
    "Rules",
    "Stage",
    "Whereabouts",
    "bucket",
    "did_you_mean",
    "is_name",
    "known_routes",
]
