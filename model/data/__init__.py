"""From text to batches of tokens: corpora, documents, tokenizers, shards, batches, and the inspection of held-out text.

Take `prepare.prepare`, `tokenizer.Tokenizer` and `corpus.load_corpus` from here.
It imports the recipe and `system`.
"""
