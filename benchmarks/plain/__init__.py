"""A plain implementation of the published method, to be measured against: written from the paper and the facts page for
this purpose, in the way that the published code spends its time. Loops over samples and shots, features repeated per
prototype, float32 in torch's default memory format, one backbone call an image, nothing kept between episodes.

It takes its weights from the project's network, so that results can be compared.
"""
