"""Differential privacy: releases as data, what they cost, the noise that they need, and a ledger of all of them."""
