"""To other libraries: TransformerLens' bridge, and Hugging Face's GPT-2, Llama, Qwen2 and Qwen3."""
