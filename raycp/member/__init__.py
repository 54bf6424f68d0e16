"""What shards, workers, the observer and embedded clusters share.

``core`` answers the questions that all members are asked; ``permits`` pulls the permit to write; ``clients`` and ``limits``
give each cluster's API client and what the fleet file allows it; ``token_pool`` shares a cluster's client budget; ``stats``
sends statistics to the observer.
"""
