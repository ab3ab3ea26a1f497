"""Other systems that run the same work as Darkroom's benchmarks, each in one module.

These modules run in `.venv-bench`, which doesn't hold Darkroom's packages, so they import only each other. The rows are
Darkroom's own job table, whose triggers are switched off in their sessions. None of these systems charges, keeps a
ledger or a history, fences writes by claim, or has deadlines for stages; what else each lacks stands in its module.
"""
