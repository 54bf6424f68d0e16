"""Admission policies in CEL: ValidatingAdmissionPolicy and MutatingAdmissionPolicy with their bindings.

``matching`` decides which policies a request is of, ``params`` finds their parameters, ``evaluation`` compiles and evaluates their
expressions, ``validating`` refuses requests with what that says, ``typechecks`` writes what does not fit the types into a policy's
status. As ``apiserver/pkg/admission/plugin/policy``.
"""
