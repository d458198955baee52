"""To other libraries: TransformerLens' bridge and Hugging Face's GPT-2."""
