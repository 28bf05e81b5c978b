"""Fiscal registers behind one port: the lane talks to `FiscalRegister`, each family brings a driver."""
