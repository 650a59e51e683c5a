"""The zoo: talking-face generators with their data, training, distillation and metrics."""
