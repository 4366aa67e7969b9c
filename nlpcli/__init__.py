"""nlpcli: pretrain, fine-tune, use and measure language models and translators from raw text."""

__version__ = "0.1.0"
