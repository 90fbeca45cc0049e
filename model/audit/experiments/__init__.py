"""The experiments of an audit: each tests one or more of the conditions and returns its verdicts.

`bench` holds the evaluator that is tested. `texts` and `made_up` make the texts it is tested on.
`causal`, `order`, `mass`, `single_pass`, `accounting` and `package` each test the conditions that their docstrings name.
"""
