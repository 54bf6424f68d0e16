"""What is wrong with a controller's own credentials is that controller's fault, and no evidence about the cluster (law 11).

Without this a 401 would count against the cluster, and open its breaker for the controllers of other authors.
"""

from raycp.kube import ApiError, ConnectError, Unreachable
from raycp.kube.connect import UserSource
from raycp.kube.errors import NoCredentials

_REMEDY = "See spec.controllers[].credentials"


def own_fault(controller: str, cluster: str, user: UserSource | None, error: ApiError | Unreachable) -> ConnectError | None:
    """The fault of ``user``, the credentials of ``controller`` there, that a failed request shows; None if it is not theirs, or if
    it has none of its own.
    """
    if user is None:
        return None
    whose = f"the credentials of controller {controller!r} in {user.path}"
    if isinstance(error, ApiError):
        problem = f"it rejects {whose} (401)" if error.status == 401 else ""
    else:
        problem = f"{whose} are not there: {error}" if isinstance(error, NoCredentials) else ""
    return ConnectError(cluster, problem, _REMEDY) if problem else None
