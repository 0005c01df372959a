"""The runtime that an owner lends to a sandbox: the grant, the protocol, what serves it.

grant      RuntimeAccess: what programs of a sandbox may start
caller     who asks, for those who want to know
checking   a request, the grant and what runs already: what to start, or why not (pure)
frames     the bytes of one connection of the guest (pure)
requests   what a guest may ask, parsed and bounded (pure)
server     serves the connections of one sandbox
wheel      the package that is offered to the guest, made from
lent       the client, which runs in guests alone and needs nothing of Sandlot
    lent_sync  the same without `await`
"""
