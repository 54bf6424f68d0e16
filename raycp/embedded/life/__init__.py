"""What lives in an embedded cluster beside its API server: the parts of kube-controller-manager, scheduler and kubelet
whose absence a controller can tell.

The way of a Pod through it: ``scheduler`` binds it (``fit`` decides where); ``player`` plays the stages of
``stages/pod.yaml`` on it (read by ``stagefile`` with ``jq`` and ``gotemplate``, rendered by ``rendering``, patched by
``merging``) with what ``failures`` planned for it; ``eventing`` tells; ``logs`` shows; ``nodes`` keeps its node alive;
``gc`` collects it with its owner (``ownergraph``), or ``namespaces`` with its namespace; ``serviceaccounts`` fits out new
namespaces. Each can be switched off (``EmbeddedControllers``). ``life`` puts them together.

All listen at the store and write through the in-process API (``seams``): no polling, no cache of objects.
"""

from raycp.embedded.life.life import ClusterLife

__all__ = ["ClusterLife"]
