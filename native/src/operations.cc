#include "operations.h"
