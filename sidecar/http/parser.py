"""httptools, where the sidecar takes it from: HTTP is parsed here and nowhere by hand.

A request that lies about its length (two lengths, a length beside chunks), folds its headers or
ends its lines wrongly is an error of the parser, because what one side takes for the end of a
message must never be something else for another.
"""

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

__all__ = [
    "HttpParserCallbackError",
    "HttpParserError",
    "HttpParserUpgrade",
    "HttpRequestParser",
    "HttpResponseParser",
]
