"""What techniques measured on small models will do at full scale: noise, the hierarchical model, predictions and verdicts.

It imports no other room. A table of paired differences goes in, a table of predictions comes out.
"""
