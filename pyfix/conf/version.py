"""The version of this software: what --version, mail_version and the API's GetInfo tell."""

VERSION = "0.1.0"
