"""The page where a person looks at suspects beside the task's images and says which are leaks."""

from tutelage.curation.review.server import serve
from tutelage.curation.review.state import Review, open_review

__all__ = ["Review", "open_review", "serve"]
