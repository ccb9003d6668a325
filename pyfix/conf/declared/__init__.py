"""Declarations of main.cf parameters, a module a subject."""
