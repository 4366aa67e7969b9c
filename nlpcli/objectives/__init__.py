"""Self-supervised objectives: what a model learns from raw text alone."""

from nlpcli.config.tables import LazyTable

OBJECTIVES = LazyTable("objective", {"clm": "nlpcli.objectives.clm:CausalLanguageModelling"})
