"""A private authority for certificates, as an institution has one."""

import datetime
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


class Authority:
    """Its own certificate is in `path`; `issue` makes those of servers."""

    def __init__(self, directory, name="authority"):
        self.directory, self.name = directory, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = named(name)
        self.path = os.path.join(directory, f"{name}.pem")
        made = self._signed(self.key, self.subject, x509.BasicConstraints(True, None), NOW + DAY)
        with open(self.path, "wb") as file:
            file.write(made)

    def issue(self, domain, ends=NOW + DAY, file=None):
        """A file with a key and a certificate for it."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(key, named(domain), x509.SubjectAlternativeName([x509.DNSName(domain)]), ends)
        path = os.path.join(self.directory, file or f"{domain}.pem")
        with open(path, "wb") as out:
            out.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + made)
        return path

    def _signed(self, key, subject, extension, ends):
        made = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(ends - 3 * DAY).not_valid_after(ends)
                .add_extension(extension, isinstance(extension, x509.BasicConstraints)).sign(self.key, hashes.SHA256()))
        return made.public_bytes(serialization.Encoding.PEM)


def named(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
