"""Pod Security Standards by namespace labels, as the admission plugin ``PodSecurity`` enforces them.

``checks`` judges a Pod by a level and a version, ``admission`` reads the labels and refuses, warns or logs.
"""
