"""TLS for tests: a certificate, and clients that trust it."""

import ssl

import trustme

AUTHORITY = trustme.CA()


def context(low=ssl.TLSVersion.TLSv1_2, high=ssl.TLSVersion.TLSv1_3, expired=False):
    context = ssl.create_default_context()
    if expired:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    AUTHORITY.configure_trust(context)
    context.minimum_version, context.maximum_version = low, high
    return context


class Files:
    """A certificate and its key."""

    def __init__(self, directory):
        self.cert, self.key = directory / "cert.pem", directory / "key.pem"
        self.renew()

    def renew(self, **options):
        issued = AUTHORITY.issue_cert("127.0.0.1", **options)
        self.cert.write_bytes(b"".join(it.bytes() for it in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())


async def start_with(start, files, **settings):
    return await start(tls_cert=files.cert, tls_key=files.key, ssl=context(), **settings)


