"""A process that tokenizes: lists of texts come in on standard input, their tokens go out on standard output.

python -m interp.data.tokenizer_worker TOKENIZER
"""

import sys
from pathlib import Path

from interp.data.tokenizer import text_encoder
from interp.data.workers import serve
from interp.vocabulary import load_tokenizer

if __name__ == "__main__":
    serve(text_encoder(load_tokenizer(Path(sys.argv[1]))))
