"""Admission policies in CEL: ValidatingAdmissionPolicy and MutatingAdmissionPolicy with their bindings.

``bound`` finds policies with bindings, ``constraints`` decides which of them a request is of, ``params`` finds their parameters,
``evaluation`` compiles and evaluates their expressions, ``verdicts`` refuses requests with what that says, ``mutations`` changes
objects by it, ``typechecks`` writes what does not fit the types into a policy's status. As ``apiserver``'s
``pkg/admission/plugin/policy``.
"""
