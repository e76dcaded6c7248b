"""One thread at a time loads a model: transformers changes torch for everybody while it does.

Between its beginning and its end `from_pretrained` builds the model on the `meta` device, without weights, and replaces
`torch.nn.init` in the whole process. A second thread that loads at the same time is left with parameters that hold no
data ("Cannot copy out of meta tensor"). Steps of one run are such threads, so everything that loads does it like this:

    with LOADING:
        from transformers import AutoModelForCausalLM
        model = AutoModelForCausalLM.from_pretrained(folder)

The import is inside too: transformers imports its parts when they are first asked for, and two threads that ask at the
same time can see a part half made.
"""

from __future__ import annotations

import threading

LOADING = threading.RLock()
