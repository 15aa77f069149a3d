"""One node of a Ray cluster on the loopback address, in a process of its own, until that ends.

``python raynode.py FOLDER IP CPUS ADDRESS``: FOLDER is its working folder; ADDRESS is of the
cluster that it joins, empty if it is the first. Prints the cluster's address when it is there.
"""

from __future__ import annotations

import os
import signal
import sys


def main(folder: str, ip: str, cpus: str, address: str) -> None:
    from pipeline.engine.on_ray import LOCAL_ENVIRONMENT

    os.environ.update(LOCAL_ENVIRONMENT)
    from pipeline.engine.ray_node import lean_node, stop

    node = lean_node(
        head=not address,
        gcs_address=address or None,
        node_ip_address=ip,
        num_cpus=int(cpus),
        object_store_memory=200 << 20,
        temp_dir=folder,
    )
    print(node.gcs_address, flush=True)
    try:
        signal.sigwait([signal.SIGTERM])
    finally:
        stop(node)


if __name__ == "__main__":
    main(*sys.argv[1:])
