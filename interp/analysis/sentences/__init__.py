"""One text under the lens: its tokens' classes, bias scores, attention, losses and predictions, with the bias turned."""
