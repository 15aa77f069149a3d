from .dedup import DedupResult, dedup, dedup_split
from .errors import BtfError, NoBtfError, UnsupportedError, WrongBaseError
from .index import BaseIndex
from .table import BTF, parse
