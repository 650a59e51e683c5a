"""The zoo: talking-face generators with their data, training, distillation and metrics.

Clips of talking faces, or specs of trainings, come in; trained generators, their scores and the tables of
Kim et al. 2023 go out. qsens finds it through entry points alone, and nothing else imports it.
"""
