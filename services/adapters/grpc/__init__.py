"""Everything a gRPC server of ours needs: identity, errors, deadlines, metrics, health, reflection, drain.

    server = GrpcServer(settings, verifier, clock, registry)
    add_ExecutionServiceServicer_to_server(servicer, server)
    await server.start()
    …
    await server.drain()

Servicers are plain: they return messages, raise `services.core.refusals.Refusal` when a request is not
served, and ask `current_call()` on whose behalf it runs. They never touch metadata, codes or aborts.
"""
