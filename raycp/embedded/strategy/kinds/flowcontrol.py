"""Defaults of API priority and fairness (``pkg/apis/flowcontrol/v1/defaults.go``); no request is queued by them."""

from raycp.embedded.strategy.rules import Object, register

GROUP = "flowcontrol.apiserver.k8s.io"
SHARES = 30
"""``PriorityLevelConfigurationDefaultNominalConcurrencyShares``"""


def _schema_defaults(obj: Object) -> None:
    spec = obj["spec"]
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000


def _level_defaults(obj: Object) -> None:
    limited, exempt = obj["spec"].get("limited"), obj["spec"].get("exempt")
    if limited is not None:
        _set(limited, nominalConcurrencyShares=SHARES, lendablePercent=0)
        queuing = limited["limitResponse"].get("queuing")
        if queuing is not None:
            for key, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                queuing[key] = queuing.get(key) or value
    if exempt is not None:
        _set(exempt, nominalConcurrencyShares=0, lendablePercent=0)


def _set(obj: Object, **defaults: int) -> None:
    for key, value in defaults.items():
        if obj.get(key) is None:
            obj[key] = value


register(GROUP, "FlowSchema", generation=True, defaults=_schema_defaults)
register(GROUP, "PriorityLevelConfiguration", generation=True, defaults=_level_defaults)
