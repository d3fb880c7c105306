"""The Hugging Face hub: whether it answers, what is cached, and one clear error when weights cannot be had."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tutelage.errors import ModelError

_PATIENCE = 5.0


def reachable() -> bool:
    """Return whether the hub answers within seconds; the hub's own client retries for minutes before it gives up."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=_PATIENCE):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # Behind a company's own certificate the hub's client may still succeed.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False


def cached(repo: str) -> bool:
    """Return whether the local cache holds anything of a hub repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo.split("@")[0], repo_type="model")
    return any(folder.glob("snapshots/*/*"))


def cache_only(name: str, repo: str) -> bool:
    """Return whether the cache is all there is, since the hub cannot be reached.

    Raises:
        ModelError: The hub cannot be reached, and the cache holds nothing of the repository.
    """
    if reachable():
        return False
    if not cached(repo):
        raise _unreachable(name, repo)
    return True


@contextmanager
def failures(name: str, repo: str) -> Iterator[None]:
    """Turn what the model libraries raise when weights cannot be fetched or loaded into one ``ModelError``."""
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        chain = list(_chain(error))
        if any(isinstance(e, GatedRepoError) for e in chain):
            message = (
                f"{name}: {repo} asks you to accept its license first: do so on its hub page, then `hf auth login`"
            )
        elif any(isinstance(e, RepositoryNotFoundError) for e in chain):
            message = (
                f"{name}: the hub has no repository {repo}, or it is private; check its name, or `hf auth login`"
            )
        elif any(isinstance(e, LocalEntryNotFoundError | urllib.error.URLError) for e in chain):
            raise _unreachable(name, repo) from error
        else:
            message = f"{name} cannot be built: {str(error).strip()}"
        raise ModelError(message) from error


def _unreachable(name: str, repo: str) -> ModelError:
    from huggingface_hub import constants

    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
    return ModelError(
        f"{name}: its weights ({repo}) are not complete in the local cache, and {why}. Where there is a network, run "
        f"`hf download {repo}` and copy the cache here (HF_HOME says where it is, now {constants.HF_HOME}; "
        f"HF_HUB_OFFLINE=1 then uses it without asking), or use a model that needs no hub: bundled:efficientnet-lite0"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    # open_clip keeps the hub's own error only as the context of its RuntimeError.
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
