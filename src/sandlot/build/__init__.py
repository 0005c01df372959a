"""Building images from Dockerfiles: each RUN in a machine of its own, each step once.

dockerfile   the instructions, frozen (pure)
variables    arguments, environment, their replacement (pure)
graph        which stages are built (pure)
state        what a stage has become (pure)
selection    what COPY means (pure)
sources      the context, and the files of images
layering     files put over an image
progress     what is told meanwhile
commands     one RUN
cache        steps that were done before
builder      all of it in order
"""
