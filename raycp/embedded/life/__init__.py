"""The simulation in an embedded cluster: the parts of kube-controller-manager, scheduler and kubelet that controllers
depend on.

The path of a Pod:

- ``serviceaccounts`` creates the default objects of its namespace;
- ``scheduler`` binds it to a node that ``fit`` accepts; ``nodes`` keeps nodes alive and evicts Pods;
- ``player`` applies the stages of ``stages/pod.yaml``: ``stageset`` and ``stagefile`` read them, ``evaluator`` looks up their paths
  (``jqpath``) and asks jq, in a process of its own (``jqchild``), ``gotemplate`` and ``render`` render their patches, ``merge``
  applies them; ``failures`` plans start, duration and result;
- ``events`` writes its Events, ``logs`` renders its log;
- ``gc`` deletes it with its owner (``ownergraph``), ``namespaces`` with its namespace.

Each can be switched off (``EmbeddedControllers``). ``life`` wires them. All subscribe to the store and write through the
in-process API (``seams``): no polling, no cache of objects.
"""

from raycp.embedded.life.life import ClusterLife

__all__ = ["ClusterLife"]
