"""Reading a whole data set once, to say what would hurt later. It stops at no fault."""
