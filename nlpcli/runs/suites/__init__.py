"""GLUE, SuperGLUE and Russian SuperGLUE whole: training, scores and predictions."""
