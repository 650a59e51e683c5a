"""Sets of samples, the batches that feed a graph, and the ranges that tensors have on them.

Folders of images or arrays, seeded noise and sets of plug-ins come in as a `SampleSet`; the `Ranges` of the
tensors that INT8 quantizes go out. The main types are `FeedSampleSet` and `Ranges`.
"""
