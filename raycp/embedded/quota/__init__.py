"""Quotas and limits of namespaces: what an object uses, what a ResourceQuota allows, what a LimitRange sets and demands.

- ``podtotals``: the requests and limits of a whole Pod;
- ``usage``: which resources of a quota an object uses, and how much of each;
- ``scopes``: which objects a quota with scopes counts;
- ``book``: the account of one quota: its limits and what is used;
- ``quotas``: the accounts of a cluster: kept by the store's changes, asked before a write, written into status after it;
- ``limitranges``: defaults and limits of Pods and claims.

Namespaces without quotas have no accounts: a write there costs a look into a dict.
"""
