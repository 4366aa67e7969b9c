"""From a model that can take a step to text: greedy, beam search and sampling, written once over `Decodable`."""
