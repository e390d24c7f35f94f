"""``bcdzoo doctor``: what is installed, what works, and how to fix the rest."""

from collections.abc import Iterator

from bcdzoo.doctor.finding import Finding
from bcdzoo.errors import BcdzooError


def examine(with_links: bool = False) -> Iterator[Finding]:
    """Examine the installation, the user's folders and the network, each when its turn comes.

    Args:
        with_links: Whether every link of the manifest is probed, too.
    """
    from bcdzoo.doctor import folders, network
    from bcdzoo.doctor.software import software
    from bcdzoo.weights.manifest import Manifest, load_manifest

    yield from software()
    yield from folders.settings()
    try:
        manifest = load_manifest()
    except BcdzooError as error:
        manifest = Manifest((), ())
        yield Finding("problem", "manifest", str(error), "put it right, or unset BCDZOO_MANIFEST")
    else:
        models = {checkpoint.model for checkpoint in manifest.checkpoints}
        yield Finding("ok", "manifest", f"{len(manifest.checkpoints)} checkpoints of {len(models)} networks")
    yield from folders.folders(manifest)
    yield network.hub()
    yield from network.mirror_health(manifest)
    if with_links:
        yield from network.links(manifest)
