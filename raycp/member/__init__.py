"""The parts that shards, workers, the observer and embedded clusters share.

``core`` answers the control questions of every member; ``permits`` pulls the permit to write; ``clients`` and ``limits``
give each cluster's API client and its limits in the fleet file; ``token_pool`` shares a cluster's client budget; ``stats``
sends statistics to the observer, with what the ``process`` costs; ``problem_log`` remembers since when each problem has stood;
``process_recorder`` keeps the process's flight recorder, and answers for those of its node.
"""
