# The types of ml_collections, whose keys may hold anything. Without them the checker infers the
# type of a key from the library's code, and what it infers depends on the order of our files.
from ml_collections import config_dict as config_dict
