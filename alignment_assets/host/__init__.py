"""What the operating system and the hub give: locks, queues, memory, disks, paths, commits.

Imports nothing else of the product.
"""
