"""Phase 1B: does a patch gain foretell what training on the moment brings?"""
